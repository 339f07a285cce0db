"""Workloads and chips as files of other simulators, one module a simulator."""
