import com.pixelmed.validate.DicomSRValidator;

/** What PixelMed's template validator says of each file, after a line that names it, with the options of its own main. */
public class Validate {
    public static void main(String[] paths) throws Exception {
        System.setErr(System.out);
        DicomSRValidator validator = new DicomSRValidator();
        for (String path : paths) {
            System.out.println("\n" + path);
            try {
                System.out.print(validator.validate(path, false, true, false, false, false));
            } catch (Exception error) {
                error.printStackTrace(System.out);
            }
        }
    }
}
