"""What the type checker must be told of torch; a plugin of mypy, named in pyproject.toml."""

from collections.abc import Callable

from mypy.nodes import ARG_NAMED_OPT, TypeInfo
from mypy.plugin import AttributeContext, MethodContext, MethodSigContext, Plugin
from mypy.types import AnyType, FunctionLike, Type, TypeOfAny

# Torch calls what a module carries `Tensor | Module`, the bias of a convolution `Tensor | None`, and what a list of
# modules holds `Module`. Which it is, and with which attributes, only the constructor of the module that holds it says.
MODULE = "torch.nn.modules.module.Module"
BIAS = "torch.nn.modules.conv._ConvNd.bias"
LIST_ITEM = "torch.nn.modules.container.ModuleList.__getitem__"


class TorchTypes(Plugin):
    """Lets attributes of modules be used as what they are, and `Module.to` take its `memory_format`."""

    def get_attribute_hook(self, fullname: str) -> Callable[[AttributeContext], Type] | None:
        """Attributes that `Module` does not declare itself, and a convolution's bias."""
        owner, _, name = fullname.rpartition(".")
        module = self.lookup_fully_qualified(MODULE) if owner == MODULE else None
        undeclared = module is not None and name not in module.node.names
        return _anything if undeclared or fullname == BIAS else None

    def get_method_hook(self, fullname: str) -> Callable[[MethodContext], Type] | None:
        """Items of a `ModuleList`."""
        return _anything if fullname == LIST_ITEM else None

    def get_method_signature_hook(self, fullname: str) -> Callable[[MethodSigContext], FunctionLike] | None:
        """`Module.to`, whose documented argument `memory_format` torch's overloads leave out."""
        owner, _, name = fullname.rpartition(".")  # the class of the object, not that which defines the method
        found = self.lookup_fully_qualified(owner) if name == "to" else None
        is_module = found is not None and isinstance(found.node, TypeInfo) and found.node.has_base(MODULE)
        return _with_memory_format if is_module else None


def _anything(context: AttributeContext | MethodContext) -> Type:
    return AnyType(TypeOfAny.explicit)


def _with_memory_format(context: MethodSigContext) -> FunctionLike:
    signature = context.default_signature
    return signature.copy_modified(
        arg_types=[*signature.arg_types, AnyType(TypeOfAny.explicit)],
        arg_kinds=[*signature.arg_kinds, ARG_NAMED_OPT],
        arg_names=[*signature.arg_names, "memory_format"],
    )


def plugin(version: str) -> type[Plugin]:
    """What mypy calls."""
    return TorchTypes
