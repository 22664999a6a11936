def write(docs, files):
    pass
