"""Photo and masks to the tokens that the flow models see; shared by the pipeline and the trainers."""
