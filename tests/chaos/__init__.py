"""Campaigns against all of Jobber as real processes: kills, freezes, cuts, wipes and full disks, then an exact comparison.

python -m tests.chaos --seed 7 --faults 200 [--broker pulsar]
"""
