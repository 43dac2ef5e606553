"""MVP (paper §3.3): algorithm, prediction head and loss; with several teachers, a head for each."""
