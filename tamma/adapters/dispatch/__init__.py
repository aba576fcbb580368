"""Dispatch: how a reserved task becomes a running worker."""

from tamma.adapters.dispatch.local import LocalDispatcher

__all__ = ["LocalDispatcher"]
