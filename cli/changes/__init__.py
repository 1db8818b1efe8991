"""What a preview says would happen: to which node, part or cluster, what is lost by it, and in which words."""
