"""BERT: a post-norm encoder with learned positions."""

from .activation import Activation
from .backbone import BertBackbone
from .config import BertConfig

__all__ = ["Activation", "BertBackbone", "BertConfig"]
