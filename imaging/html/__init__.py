"""What every HTML page of this toolkit is made of: safe markup, one look, and a policy that loads nothing."""
