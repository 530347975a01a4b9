"""Unified detection proficiency (UDP): one number for classification and localization."""


def udp(macro_auc: float, msli: float) -> float:
    """Mean of macro AUC and MSLI.

    Args:
        macro_auc: macro AUC in [0, 1].
        msli: macro MSLI in [0, 1].

    Returns:
        Their mean; NaN when either is undefined.
    """
    return (float(macro_auc) + float(msli)) / 2
