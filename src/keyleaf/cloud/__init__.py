"""Reads and changes Azure state through Microsoft's SDKs, embedded or real."""

from keyleaf.cloud.applier import apply_plan, assignment_resource_id
from keyleaf.cloud.azure import Azure
from keyleaf.cloud.fake import FakeAzure
from keyleaf.cloud.microsoft import PUBLIC_ARM, MicrosoftAzure, told
from keyleaf.cloud.reader import read_actual

__all__ = [
    "Azure",
    "FakeAzure",
    "MicrosoftAzure",
    "PUBLIC_ARM",
    "apply_plan",
    "assignment_resource_id",
    "read_actual",
    "told",
]
