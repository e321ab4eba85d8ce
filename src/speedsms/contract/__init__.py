"""What every gateway of this API answers, as pure functions: the real gateway and the fake of the test kit
run the same code, so a program that works against one works against the other (docs/decisions/0011).

Standard library only; time and configuration are arguments.
"""
