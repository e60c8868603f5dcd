"""The part of Azure Resource Manager that the control plane needs."""
