"""The lab's digital twin: a program of its own, which shares no code with the program that it tests."""
