"""What it stands on: local services, images, dashboards."""
