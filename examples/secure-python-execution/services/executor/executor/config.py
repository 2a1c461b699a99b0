"""What the ConfigMap decides."""

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
    execution_memory: int = number("execution_memory", 256)
    isolation: str = setting("isolation", "required")
    heavy_job_image: str = setting("heavy_job_image", "heavy-executor:1.0.0")
    heavy_job_cpu_request: str = setting("heavy_job_cpu_request", "2")
    heavy_job_cpu_limit: str = setting("heavy_job_cpu_limit", "4")
    heavy_job_memory_request: str = setting("heavy_job_memory_request", "4Gi")
    heavy_job_memory_limit: str = setting("heavy_job_memory_limit", "8Gi")
    heavy_job_timeout: int = number("heavy_job_timeout", 600)
    heavy_job_code_memory: int = number("heavy_job_code_memory", 6144)
    heavy_job_ttl: int = number("heavy_job_ttl", 3600)
