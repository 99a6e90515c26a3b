"""How an older database becomes one of today; run by `proxy.store.database.migrate`."""
