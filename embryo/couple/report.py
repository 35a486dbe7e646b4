"""What a person should know of couplings, in one line."""

from collections.abc import Sequence

from embryo.core.coupling import Coupling


def summary(couplings: Sequence[Coupling]) -> str:
    """Return one line: intervals, methods, pairs, the worst certificates, rotations, and what did not converge."""
    notes = [c.diagnostics for c in couplings]
    methods = sorted({str(n["method"]) for n in notes})
    said = [f"{len(couplings)} intervals by {', '.join(methods)}, {sum(c.plan.nnz for c in couplings):,} pairs"]
    residuals = [max(n["source_residual"], n["target_residual"]) for n in notes if "source_residual" in n]
    if residuals:
        said.append(f"marginal residuals up to {max(residuals):.1g}")
    gaps = [n["gap"] for n in notes if "gap" in n]
    if gaps:
        said.append(f"duality gaps up to {max(0.0, *gaps):.1g}")
    turned = [(c, c.diagnostics["alignment"]) for c in couplings if "alignment" in c.diagnostics]
    if turned:
        said.append("turned by " + ", ".join(f"{a['angle_deg']:.0f}°" for _, a in turned))
    open_ = [f"{c.t0_h:g} to {c.t1_h:g} h" for c, a in turned if a["ambiguous"]]
    if open_:
        said.append(f"rotation ambiguous (symmetric shape) from {', '.join(open_)}")
    failed = [f"{c.t0_h:g} to {c.t1_h:g} h" for c in couplings if not c.diagnostics.get("converged", True)]
    if failed:
        reasons = sorted({str(r) for n in notes for r in n.get("complaints", [])})
        said.append(f"{len(failed)} did not converge: " + "; ".join([", ".join(failed), *reasons]))
    return "; ".join(said)
