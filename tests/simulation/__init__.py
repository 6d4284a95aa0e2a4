"""The shipped decision code under a seeded scheduler: processes that are killed, frozen and cut off in every order."""
