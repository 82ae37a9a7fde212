//! What every process needs: configuration, telemetry, metrics, admin port, lifecycle, clients.
