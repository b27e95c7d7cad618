"""The terms beside Eq. 9, one value at a time."""

import math


def entropy(weights):
    """weights [queries][m] -> mean over the queries of -sum w log w."""
    rows = [[float(w) for w in row] for row in weights]
    return sum(-sum(w * math.log(w) for w in row if w > 0) for row in rows) / len(rows)


def focal(logits, masks):
    """Flat logits and masks -> mean of -(1 - p)^2 log p, p the probability of what is there."""
    total = 0.0
    for logit, mask in zip(logits, masks, strict=True):
        defect = 1 / (1 + math.exp(-float(logit)))
        right = defect if mask else 1 - defect
        total += -((1 - right) ** 2) * math.log(right)
    return total / len(logits)


def cross(logits, real):
    """Mean cross-entropy of flat logits where all are real, or none is."""
    shares = [1 / (1 + math.exp(-float(logit))) for logit in logits]
    return sum(-math.log(p if real else 1 - p) for p in shares) / len(shares)
