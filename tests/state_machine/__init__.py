"""The shipped SQL on a real PostgreSQL, driven step by step by Hypothesis and compared with what was promised."""
