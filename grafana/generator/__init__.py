"""Makes the dashboards of `grafana/dashboards`: ``python -m grafana.generator``."""

import warnings

with warnings.catch_warnings():
    # The SDK would rather have dashboards of version 2, and says so when these two are imported;
    # every Grafana reads those of version 1.
    warnings.simplefilter("ignore", DeprecationWarning)
    import grafana_foundation_sdk.builders.dashboard
    import grafana_foundation_sdk.builders.stat  # noqa: F401
