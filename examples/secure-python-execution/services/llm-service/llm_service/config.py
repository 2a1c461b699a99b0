"""What the ConfigMap and the Secret decide."""

import os
from dataclasses import dataclass, field


def setting(name: str, default: str):
    return field(default_factory=lambda: os.environ.get(name, default))


def number(name: str, default: int):
    return field(default_factory=lambda: int(os.environ.get(name, default)))


@dataclass(frozen=True)
class Config:
    log_level: str = setting("log_level", "INFO")
    max_retries: int = number("max_retries", 3)
    execution_timeout: int = number("execution_timeout", 10)
    executor_url: str = setting("executor_url", "http://executor-service:8001")
    # An OpenAI-compatible interface; without one the templates write the code.
    llm_base_url: str = setting("llm_base_url", "")
    llm_model: str = setting("llm_model", "chat")
    llm_api_key: str = setting("LLM_API_KEY", "")
