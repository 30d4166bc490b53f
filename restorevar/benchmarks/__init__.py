"""What the method costs: time, memory and FLOPs of ours, of the published code and of the compared methods.

`run.py` is the command; every other file measures one thing and returns plain numbers, `tables.py` shows them.
Only ratios of figures from one run on one device are worth comparing.
"""
