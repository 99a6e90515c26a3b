"""How an older database becomes one of today; run by `gatepost.store.sqlite.database.migrate`."""
