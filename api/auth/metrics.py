"""What /metrics of the auth service tells beside what all services do."""

from prometheus_client import Counter

LOGINS = Counter("jobber_auth_logins", "Logins, by outcome: ok, refused, limited.", ["outcome"])
