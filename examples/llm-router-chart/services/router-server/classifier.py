"""A text classifier that learns from examples: naive Bayes over words, with one more counted for each."""

import math
import re
from collections import Counter


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9+#]+", text.lower())


class Classifier:
    def __init__(self, examples: dict[str, list[str]]):
        """`examples` has texts by their label."""
        if len(examples) < 2 or not all(examples.values()):
            raise ValueError("a classifier needs two labels or more, each with an example")
        self.labels = sorted(examples)
        counts = {label: Counter(word for text in examples[label] for word in words(text)) for label in self.labels}
        vocabulary = set().union(*counts.values())
        texts = sum(map(len, examples.values()))
        self._prior = {label: math.log(len(examples[label]) / texts) for label in self.labels}
        self._word = {
            word: {
                label: math.log((counts[label][word] + 1) / (counts[label].total() + len(vocabulary)))
                for label in self.labels
            }
            for word in vocabulary
        }

    def scores(self, text: str) -> list[float]:
        """How likely each label is, in the order of `labels`; 1 in all. Words that no example has say nothing."""
        known = [self._word[word] for word in words(text) if word in self._word]
        logs = [self._prior[label] + sum(word[label] for word in known) for label in self.labels]
        highest = max(logs)
        shares = [math.exp(log - highest) for log in logs]
        return [share / sum(shares) for share in shares]
