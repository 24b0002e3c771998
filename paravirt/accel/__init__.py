"""Accelerators: what runs vCPUs.  KVM is the one there is."""
