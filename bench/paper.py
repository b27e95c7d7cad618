"""What the paper prints for its own method: AUROC in percent, by category of MVTec AD.

Xing and Li, IEEE TCSVT 33(8), 2023, arXiv 2209.12441: the rows "OURS".
"""

from __future__ import annotations

# table: (metric it prints, {category: value})
PRINTED: dict[str, tuple[str, dict[str, float]]] = {
    "Table I": ("image_AUROC", {"bottle": 95.2, "transistor": 92.4}),
    "Table IV": ("pixel_AUROC", {"bottle": 93.7, "transistor": 80.8}),
}


def printed(metric: str, data_format: str, name: str) -> float | None:
    """The paper's value in percent for a category of MVTec AD; None where it prints none."""
    if data_format != "mvtec":
        return None
    return next((values.get(name) for found, values in PRINTED.values() if found == metric), None)
