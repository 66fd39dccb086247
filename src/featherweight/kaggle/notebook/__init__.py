"""Notebooks of code competitions: the folder that is sent (`kernel`, `script`, `wheels`), sending it (`push`), and what
runs on Kaggle (`inside`, `epochs`).
"""
