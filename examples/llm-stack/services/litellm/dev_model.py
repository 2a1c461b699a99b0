"""A model for development without a provider: it answers from the question, and embeds texts by the words in them."""

import hashlib
import math
import re
from collections import Counter

import litellm
from litellm import CustomLLM
from litellm.types.utils import Embedding, EmbeddingResponse, Usage


def text_of(content):
    """A message's text; clients may send it in parts."""
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", "") for part in content or [] if part.get("type") == "text")


def answer(messages):
    questions = [message["content"] for message in messages if message["role"] == "user"]
    return f"You said: {text_of(questions[-1]) if questions else ''}"


def embed(text, dimensions):
    """Texts that share words come out near each other; that is all that a search needs to be tried out."""
    vector = [0.0] * dimensions
    for word, count in Counter(re.findall(r"\w+", text.lower())).items():
        vector[int.from_bytes(hashlib.sha256(word.encode()).digest()[:4]) % dimensions] += count
    length = math.sqrt(sum(one * one for one in vector)) or 1.0
    return [one / length for one in vector]


class DevModel(CustomLLM):
    def completion(self, *arguments, **named):
        return litellm.completion(
            model="openai/dev", messages=named["messages"], mock_response=answer(named["messages"])
        )

    async def acompletion(self, *arguments, **named):
        return self.completion(*arguments, **named)

    async def astreaming(self, *arguments, **named):
        words = re.findall(r"\S+\s*", answer(named["messages"]))
        for index, word in enumerate(words, start=1):
            last = index == len(words)
            yield {
                "text": word,
                "is_finished": last,
                "finish_reason": "stop" if last else "",
                "index": 0,
                "tool_use": None,
                "usage": {"prompt_tokens": 1, "completion_tokens": index, "total_tokens": index + 1},
            }

    async def aembedding(self, model, input, model_response, *arguments, **named):
        texts = [input] if isinstance(input, str) else input
        dimensions = int((named.get("optional_params") or {}).get("dimensions") or 512)
        response = EmbeddingResponse(model=model, usage=Usage(prompt_tokens=len(texts), total_tokens=len(texts)))
        response.data = [
            Embedding(embedding=embed(text, dimensions), index=index, object="embedding")
            for index, text in enumerate(texts)
        ]
        return response


dev_model = DevModel()
