"""Feature store: frozen features of every layer, written once, read lazily for ever.

``create`` and ``open`` give a `Store`; ``store.select(...)`` a lazy labelled dataset; and
`iter_batches` reads one out of core.
"""

from featstore.batches import Batch, iter_batches
from featstore.errors import FeatstoreError
from featstore.store import Store, create
from featstore.store import open_store as open
from featstore.version import __version__

__all__ = ["Batch", "FeatstoreError", "Store", "__version__", "create", "iter_batches", "open"]
