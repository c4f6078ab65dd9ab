"""Before and beside the stages: what a study will need (`safmn plan`) and how far it is (`safmn status`)."""
