"""Why each request went where it went: kept in a ring file per process, found again by id."""
