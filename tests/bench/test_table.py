"""The table's cells: medians of the rounds, and the ratio to the first row."""

from __future__ import annotations

from tests.bench.bench_table import FEW, LARGE, MANY, SMALL, Row, Run, on_sqlite, postfix, table
from tests.bench.load import figures_of
from tests.bench.measuring import Measured


def rounds(rates: list[float], database_cpu_ms: float = 0) -> list[dict[tuple[int, int], Run]]:
    figures = figures_of("rate=1.0/s p50=2.04ms p95=3.00ms p99=4.00ms max=5.00ms cpu=0.010ms")
    return [
        {
            (SMALL, FEW): Run(Measured(figures, 1, 1, 1), 0),
            (SMALL, MANY): Run(Measured(figures, rate, 0.654, 1), database_cpu_ms),
            (LARGE, MANY): Run(Measured(figures, rate / 2, 0.95, 1), database_cpu_ms),
        }
        for rate in rates
    ]


def test_a_row_has_the_medians_and_the_ratio_to_the_first() -> None:
    rows = [Row("Postfix", postfix), Row("relay", on_sqlite)]
    results = {"Postfix": rounds([9000.0, 400.0, 1.0]), "relay": rounds([2000.0, 1.0, 3000.0], 0.3)}
    assert table(rows, results).splitlines()[2:] == [
        "| Postfix | 400 | 1.0 | 200 | 1.0 | 0.65 ms | 0.95 ms | 2.0 / 4.0 ms | 2.0 / 4.0 ms |",
        "| relay | 2,000 | 5.0 | 1,000 | 5.0 | 0.65 + 0.30 ms | 0.95 + 0.30 ms"
        " | 2.0 / 4.0 ms | 2.0 / 4.0 ms |",
    ]
