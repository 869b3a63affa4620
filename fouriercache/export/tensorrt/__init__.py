"""TensorRT plans from ONNX files: named targets, built ahead of time in a process of their own, cached, examined."""

from fouriercache.export.tensorrt.build import DEFAULT_PROFILES, build_plan
from fouriercache.export.tensorrt.bundle_plans import build_plans, plans_for
from fouriercache.export.tensorrt.facts import READABLE, plan_facts, plan_version
from fouriercache.export.tensorrt.plan import Plan, PlanTensor, Profile, plan_from_dict
from fouriercache.export.tensorrt.plan_cache import Entry, PlanCache, default_folder
from fouriercache.export.tensorrt.targets import TARGETS, Target, target_from_name

__all__ = [
    "DEFAULT_PROFILES",
    "READABLE",
    "TARGETS",
    "Entry",
    "Plan",
    "PlanCache",
    "PlanTensor",
    "Profile",
    "Target",
    "build_plan",
    "build_plans",
    "default_folder",
    "plan_facts",
    "plan_from_dict",
    "plan_version",
    "plans_for",
    "target_from_name",
]
