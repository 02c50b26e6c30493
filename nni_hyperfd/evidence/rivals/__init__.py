"""Other ways to choose configurations, each behind the one interface of :mod:`nni_hyperfd.evidence.rivals.base`."""
