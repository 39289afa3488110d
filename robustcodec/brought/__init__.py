"""What users bring without registering it: classes in files of their own, and objects in memory."""
