"""The peers. They run in a virtualenv of their own, and import nothing of Jobber."""
