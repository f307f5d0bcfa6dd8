"""Pure statistics: p-values, e-values, intervals, multiple testing and curve fits."""
