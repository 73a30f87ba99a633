"""BERT: a post-norm encoder with learned positions."""

from .backbone import BertBackbone
from .config import BertConfig

__all__ = ["BertBackbone", "BertConfig"]
