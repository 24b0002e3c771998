"""The extension's two names; its contents are declared by the headers in native/."""

from typing import Any

ffi: Any
lib: Any
