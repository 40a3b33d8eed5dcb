"""Generate the dashboards in ``grafana/dashboards``: ``python -m grafana.generator``."""

import warnings

with warnings.catch_warnings():
    # These modules warn that version 1 of the dashboard schema is deprecated. Every release of
    # Grafana can read it.
    warnings.simplefilter("ignore", DeprecationWarning)
    import grafana_foundation_sdk.builders.dashboard
    import grafana_foundation_sdk.builders.stat  # noqa: F401
