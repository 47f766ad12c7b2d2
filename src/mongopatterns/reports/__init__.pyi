# What can be imported from `mongopatterns.reports`: read by type checkers, and by `__init__.py` when one is asked for.

from ._branches import Branch, Capped, Distinct, GroupBy, Histogram, PageOf, Percentiles, Raw, TimeBuckets, Top, Totals
from ._measures import Avg, CollectSet, Count, CountDistinct, First, Last, Max, Measure, Min, Ratio, Sum, SumMap
from ._report_async import AsyncReport
from ._report_plan import ReportCommand, ReportExplanation
from ._report_spec import ReportPage, ReportSpec, Total
from ._report_sync import Report

__all__ = [
    "AsyncReport",
    "Avg",
    "Branch",
    "Capped",
    "CollectSet",
    "Count",
    "CountDistinct",
    "Distinct",
    "First",
    "GroupBy",
    "Histogram",
    "Last",
    "Max",
    "Measure",
    "Min",
    "PageOf",
    "Percentiles",
    "Ratio",
    "Raw",
    "Report",
    "ReportCommand",
    "ReportExplanation",
    "ReportPage",
    "ReportSpec",
    "Sum",
    "SumMap",
    "TimeBuckets",
    "Top",
    "Total",
    "Totals",
]
