"""What a lab is made of: one file a thing, each a Pulumi component."""
