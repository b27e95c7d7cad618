"""Rank metrics by counting pairs and trying every threshold."""


def auroc(scores, labels):
    """The share of (positive, negative) pairs in the right order, a tie counting one half."""
    positives = [score for score, label in zip(scores, labels, strict=True) if label]
    negatives = [score for score, label in zip(scores, labels, strict=True) if not label]
    wins = sum(1.0 if p > n else 0.5 if p == n else 0.0 for p in positives for n in negatives)
    return wins / (len(positives) * len(negatives))


def confusion(scores, labels, threshold):
    """(true positives, false positives, false negatives) where score >= threshold is called positive."""
    called = [score >= threshold for score in scores]
    tp = sum(1 for c, label in zip(called, labels, strict=True) if c and label)
    fp = sum(1 for c, label in zip(called, labels, strict=True) if c and not label)
    return tp, fp, sum(1 for label in labels if label) - tp


def average_precision(scores, labels):
    total, recall_before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        tp, fp, fn = confusion(scores, labels, threshold)
        recall = tp / (tp + fn)
        total += (recall - recall_before) * tp / (tp + fp)
        recall_before = recall
    return total


def f1_max(scores, labels):
    best = 0.0
    for threshold in set(scores):
        tp, fp, fn = confusion(scores, labels, threshold)
        best = max(best, 2 * tp / (2 * tp + fp + fn))
    return best


def roc(scores, labels):
    """[(false-positive rate, true-positive rate)] from (0, 0), one point a distinct score."""
    positives = sum(1 for label in labels if label)
    points = [(0.0, 0.0)]
    for threshold in sorted(set(scores), reverse=True):
        tp, fp, _ = confusion(scores, labels, threshold)
        points.append((fp / (len(labels) - positives), tp / positives))
    return points
