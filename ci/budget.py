"""Budgets as data: what a row of a run must reach, absolutely or against another row.

- {metric: pesq_wb, min: 2.25}                                       the row that ships, MOS
- {metric: frame_p99_us, target: host, max: 4000}
- {metric: pesq_wb, relative_to: float, max_loss: 0.02}              int8 against its float form
- {metric: si_sdr, stage: distill, relative_to: noisy, min_gain: 3}
- {metric: arena_bytes, max: 320000, allow: estimated, severity: warn}
- {metric: pesq_wb, relative_to: baseline, max_loss: 0.02}          the row that ships against the baseline's
- {metric: frame_p50_us, relative_to: baseline, max_loss_percent: 5, max_loss: 2}
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from earshot.ci.comparable import ABSOLUTE_ONLY
from earshot.ci.metrics import KNOWN_METRICS, Better, did_you_mean, known_metric
from earshot.ci.quantity import quantity
from earshot.core.config import Config
from earshot.core.measurement import Provenance

ROWS = (
    "noisy",
    "teacher",
    "distill",
    "prune",
    "quantize:train",
    "quantize",
    "convert:float32",
    "convert:int8",
    "convert:int16x8",
)
FLOAT_ROW = "convert:float32"
BASELINE = "baseline"
ALLOWED_BY: dict[str, tuple[Provenance, ...]] = {
    "measured": (Provenance.MEASURED,),
    "emulated": (Provenance.MEASURED, Provenance.EMULATED),
    "estimated": (Provenance.MEASURED, Provenance.EMULATED, Provenance.ESTIMATED),
}


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a number is needed, not yes or no")
    return value


Number = Annotated[float, BeforeValidator(_no_bool)]
NotNegative = Annotated[float, BeforeValidator(_no_bool), Field(ge=0)]
Count = Annotated[int, BeforeValidator(_no_bool), Field(ge=0)]


class Budget(Config):
    """One limit on one metric: either absolute (`min`, `max` or both) or relative (`relative_to` with one tolerance).

    Attributes:
        metric: a known metric, optionally of one group (`pesq_wb[lsmix]`), or your own with `unit` and `better`.
        min: lowest value that passes, in the metric's unit.
        max: highest value that passes.
        relative_to: the row to compare with; `float` means `convert:float32`, `baseline` the same row of another run.
        max_loss: how much worse than that it may be, in the metric's unit and sense; 0 is "not worse".
        max_loss_percent: the same as a share of what it is compared with; of the two the larger allowance counts.
        min_gain: how much better than that row it must be.
        stage: the row judged; omitted, the row that ships (`gate.shipped_row`).
        target: the device; omitted, every device it was measured on, and the worst counts.
        unit: checked against the metric's; needed only for a metric of your own.
        better: which way is better, for a metric of your own.
        allow: the weakest provenance that passes: `measured`, `emulated` (also measured) or `estimated` (all three).
        allow_flags: marks that pass all the same, e.g. `throttled` or `lower-bound` (`Measurement.flags`).
        min_n: fewest samples the value may stand on.
        max_failed: how many samples may have been unscorable.
        severity: `warn` reports a miss without failing the gate.
        undecided: `warn` reports a difference to the baseline that noise hides without failing the gate.
        name: what reports call it and `without` switches off.
    """

    metric: str
    min: Number | None = None
    max: Number | None = None
    relative_to: str | None = None
    max_loss: NotNegative | None = None
    max_loss_percent: NotNegative | None = None
    min_gain: NotNegative | None = None
    stage: str | None = None
    target: str | None = None
    unit: str | None = None
    better: Better | None = None
    allow: Literal["measured", "emulated", "estimated"] = "emulated"
    allow_flags: tuple[str, ...] = ()
    min_n: Count = 1
    max_failed: Count = 0
    severity: Literal["fail", "warn"] = "fail"
    undecided: Literal["fail", "warn"] = "fail"
    name: str | None = Field(default=None, min_length=1, max_length=120)

    @model_validator(mode="after")
    def _known(self) -> Budget:
        known = known_metric(self.metric)
        if known is None and not (self.unit and self.better):
            raise ValueError(
                f"unknown metric '{self.metric}'; {did_you_mean(self.metric, list(KNOWN_METRICS))}"
                " (a metric of your own needs both unit and better)"
            )
        if known and self.unit not in (None, known.unit):
            raise ValueError(f"{self.metric} is measured in {known.unit}, not in {self.unit}")
        if known and self.better not in (None, known.better):
            raise ValueError(f"{known.better} is better for {self.metric}, not {self.better}")
        for row, special in ((self.stage, ("float",)), (self.relative_to, ("float", BASELINE))):
            if row is not None and row not in (*ROWS, *special) and not row.startswith("convert:"):
                raise ValueError(f"no row '{row}'; {did_you_mean(row, [*ROWS, *special])}")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Budget:
        absolute = self.min is not None or self.max is not None
        losses = (self.max_loss, self.max_loss_percent) != (None, None)
        tolerances = [given for given in (losses, self.min_gain is not None) if given]
        if not self.against_baseline and self.undecided != "fail":
            raise ValueError("undecided goes with relative_to: baseline")
        if self.against_baseline and self.metric.partition("[")[0] in ABSOLUTE_ONLY:
            raise ValueError(f"{self.metric} is one sample a run and does not compare with a baseline: give min or max")
        if self.relative_to is None:
            if tolerances:
                raise ValueError("max_loss and min_gain need relative_to, the row to compare with")
            if not absolute:
                raise ValueError("no limit: give min or max, or relative_to with max_loss or min_gain")
        elif absolute:
            raise ValueError("min and max do not go with relative_to: write two budgets")
        elif len(tolerances) != 1:
            raise ValueError("relative_to needs exactly one of max_loss (or max_loss_percent) and min_gain")
        elif not self.against_baseline and self.reference_row == self.row:
            raise ValueError(f"{self.row} would be compared with itself")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"contradictory: min {self.min} is above max {self.max}, no value can pass")
        return self

    @property
    def row(self) -> str | None:
        """The row judged by name, None for the row that ships."""
        return FLOAT_ROW if self.stage == "float" else self.stage

    @property
    def reference_row(self) -> str | None:
        """The row compared with, None for an absolute budget."""
        return FLOAT_ROW if self.relative_to == "float" else self.relative_to

    @property
    def against_baseline(self) -> bool:
        """Whether it compares with another run."""
        return self.relative_to == BASELINE

    def allowed_loss(self, reference: float) -> float:
        """How much worse than `reference` the value may be, in its unit; negative where it must be better."""
        if self.min_gain is not None:
            return -self.min_gain
        return max(self.max_loss or 0.0, (self.max_loss_percent or 0.0) / 100 * abs(reference))

    @property
    def required_unit(self) -> str:
        """The unit that limits are in and measurements must have."""
        known = known_metric(self.metric)
        return known.unit if known else str(self.unit)

    @property
    def higher_is_better(self) -> bool:
        """The metric's sense."""
        known = known_metric(self.metric)
        return (known.better if known else self.better) == "higher"

    @property
    def per_clip(self) -> bool:
        """Whether two rows must stand on equally many samples to compare."""
        known = known_metric(self.metric)
        return bool(known and known.per_clip)

    @property
    def allowed(self) -> tuple[Provenance, ...]:
        """The provenances that pass."""
        return ALLOWED_BY[self.allow]

    @property
    def limit_text(self) -> str:
        """The limit in words: `≥ 2.25 MOS`, `at most 0.02 MOS worse than convert:float32`."""
        unit, other = self.required_unit, "the baseline" if self.against_baseline else self.reference_row
        if self.min_gain is not None:
            return f"at least {quantity(self.min_gain, unit)} better than {other}" if self.min_gain else self._not_worse
        if self.relative_to is not None:
            percent = f"{quantity(self.max_loss_percent)} %" if self.max_loss_percent else ""
            parts = [quantity(self.max_loss, unit) if self.max_loss else "", percent]
            allowance = " or ".join(part for part in parts if part)
            return f"at most {allowance} worse than {other}" if allowance else self._not_worse
        bounds = (("≥", self.min), ("≤", self.max))
        return " and ".join(f"{sign} {quantity(bound, unit)}" for sign, bound in bounds if bound is not None)

    @property
    def _not_worse(self) -> str:
        return f"not worse than {'the baseline' if self.against_baseline else self.reference_row}"

    @property
    def title(self) -> str:
        """Its name, or one made from the metric, the limit and the scope."""
        scope = " on ".join(part for part in (self.row, self.target) if part)
        return self.name or f"{self.metric} {self.limit_text}" + (f" ({scope})" if scope else "")
