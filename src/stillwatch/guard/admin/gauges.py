"""Values of the moment, for Prometheus and OpenTelemetry alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stillwatch.guard.state import GuardState


def gauges(state: GuardState) -> dict[str, float]:
    """Measure the gateway.

    Args:
        state: shared.

    Returns:
        Full name -> value.
    """
    found = {
        "stillwatch_learner_up": float(state.link.state == "alive"),
        "stillwatch_recording": float(not state.recorder.is_failing),
        "stillwatch_board_generation": float(state.board.generation),
        "stillwatch_flagged_accounts": float(len(state.board.verdicts)),
        "stillwatch_flagged_campaigns": float(len(state.board.campaigns())),
    }
    last = state.link.last
    if last is not None:
        found["stillwatch_learning_seconds"] = last.seconds
        if last.lag_s is not None:
            found["stillwatch_learning_lag_seconds"] = last.lag_s
        found["stillwatch_learner_accounts"] = float(last.n_accounts)
    if state.policy is not None:
        found["stillwatch_policy_refused"] = float(state.policy.refused is not None)
    return found
