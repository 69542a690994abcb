"""What is measured: tasks as Gymnasium environments. Nothing here imports the rest of the project."""
