"""Campaigns against the whole of Jobber as real processes: kills, freezes, cuts, wipes, full disks, and long steady loads.

python -m tests.chaos --seed 7 --faults 200 [--broker pulsar]
python -m tests.chaos.soak --minutes 30
"""
