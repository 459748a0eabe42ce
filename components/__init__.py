"""Parts of an environment as Pulumi components, one a file. They do not import each other: the stack programs join them."""
