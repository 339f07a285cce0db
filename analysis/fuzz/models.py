"""The models that are compared with their references, and how much of a run each gets."""

from __future__ import annotations

from typing import get_args

from analysis.fuzz import allocation, residency, row_stationary, rtl, solver, spill, systolic
from analysis.fuzz.model import Model
from hwsim.accelerator import Dataflow

MODELS = (
    *(
        Model(f"systolic {flow}, {schedule}", systolic.cases(flow, schedule), systolic.check, share)
        for flow in get_args(Dataflow)
        for schedule, share in (("pipelined", 3), ("serial", 2))
    ),
    Model("systolic array as RTL", rtl.cases(), rtl.check),
    Model("systolic layers at once", systolic.scan_cases(), systolic.check_scan, 3),
    Model("spilled feature maps", spill.cases, spill.check, 3),
    Model("row-stationary layers", row_stationary.cases(), row_stationary.check, 4),
    Model("row-stationary search", row_stationary.search_cases(), row_stationary.check_search),
    Model("placement of tensors", residency.cases(), residency.check, 6),
    Model("allocation, every choice tried", allocation.cases, allocation.check, 5),
    Model("allocation, bound of HiGHS", solver.cases, solver.check),
)
