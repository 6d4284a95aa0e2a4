"""A thousand followers of one job: what each costs, and whether all see its end."""
